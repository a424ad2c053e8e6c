"""The admin API: a listener of its own for those who run the service, with credentials of their own.

Not a way for users: no token of theirs opens it. Plain HTTP; meant for this machine or a private network.
"""
