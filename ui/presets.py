"""A few recipes to begin with: name -> strengths, all within their safe ranges (`tests/ui/test_presets.py`)."""

PRESETS = {
    "smile": {"smile": 2.0},
    "young": {"age": -2.0, "skin_detail": -1.5},
    "old": {"age": 2.0, "skin_detail": 1.5},
    "gold": {"golden_hair": 3.0, "blond": 1.5},
    "studio": {"side_light": 1.5, "crispness": 1.5, "background_light": -2.0},
    "makeup": {"lipstick": 1.8, "blush": 2.0, "eye_shadow": 1.5},
}
