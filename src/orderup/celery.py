"""Where Celery finds its app: `celery -A orderup.celery worker`."""

from orderup.cli.celery import app_of_the_environment

app = app_of_the_environment()
