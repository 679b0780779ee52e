"""Words that can be translated: `_("…")` here and in templates marks them, in English. docs/guides/pages.md says how a
language is added."""

from gettext import NullTranslations

# Says everything as it is written.
TRANSLATIONS = NullTranslations()


def _(text: str) -> str:
    """Looked up when it is said, so that it is in the language of then."""
    return TRANSLATIONS.gettext(text)
