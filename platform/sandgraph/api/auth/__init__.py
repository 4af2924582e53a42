"""Who asks: API keys, tokens of an OIDC issuer, tickets; and what nobody has to be for."""
