import stylegan2  # noqa: F401  before torch: see there
