"""Small models and tokenizers built here, so that quickstarts and rehearsals need no download."""
