"""Translation heads: the published networks, trained and applied as in their papers (networks/, fit), and data for them
from the generator itself (factory)."""
