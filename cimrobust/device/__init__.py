"""Device profiles: how weights are coded, how precise devices are, what happens to them later.

Enters: a TOML file or the name of a shipped profile. Leaves: a `DeviceProfile`, complete and
checked; the interval and the distribution of a device at every level; a profile fitted to
measurements.

Read first: `profile.py`.
"""
