"""Rules of the domain that several repositories share: trust, chains of duplicates, the end of a project, retention.

A repository calls a rule; a rule calls no repository.
"""
