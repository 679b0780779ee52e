"""The real servers and programs that tests talk to: found, else installed, else reported as missing.

A test asks by naming a fixture: postgres_url, postgres_database, postgres_cluster, rabbitmq_url, redis_url, nginx,
chromium. Only what a selected test names is looked for, once for the whole run, before its first test starts:

1. what an environment variable names (ORDERUP_TEST_POSTGRES_URL ...), and nothing else if it is set;
2. a server that answers on the usual port of this machine;
3. the program installed here, started on a free port with data of its own;
4. Debian's package, installed when the tests run as root.

Otherwise the tests that need it are skipped and the run ends with a section saying what was not run and why. With
ORDERUP_REQUIRE_SERVICES=1 they fail instead.
"""
