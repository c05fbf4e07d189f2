"""Login by an OpenID Connect provider: the authorization code flow with PKCE.

| module | holds |
|---|---|
| `errors.py` | what goes wrong |
| `provider.py` | what the settings say of a provider |
| `local_path.py` | where a login may lead to: a path of this server, and nothing else |
| `login.py` | what is remembered of a login while its user is at the provider |
| `metadata.py` | what a provider says of itself |
| `id_token.py` | whether an ID token is the provider's, for us, and of this login |
| `person.py` | whom it names: a subject, and an e-mail address that is theirs |
| `transport.py` `client.py` | requests to the provider, bounded in time and size |
| `queries.py` | which logins have come back |
| `service.py` | a login, from its beginning to a session |
"""
