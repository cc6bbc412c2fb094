"""Korean: common requests are understood, also two at once, a little, a lot, not, and by years."""

import pytest

from editing.text import korean


@pytest.mark.parametrize(
    ("text", "wants"),
    [
        ("머리를 빨갛게 하고 안경을 씌워줘", {"red_hair": 1.0, "glasses": 1.0}),
        ("조금 더 웃게 해줘", {"smiling": 0.5}),
        ("훨씬 늙게 해줘", {"older": 1.6}),
        ("안경 벗겨줘", {"no_glasses": 1.0}),
        ("웃지 않게 해줘", {"serious": 1.0}),
        ("수염 없애줘", {"clean_shaven": 1.0}),
        ("콧수염을 길러 주세요", {"moustache": 1.0}),
        ("피부를 매끈하게, 입술은 빨갛게", {"smooth_skin": 1.0, "lipstick": 1.0}),
        ("고개를 왼쪽으로 돌려줘", {"turn_left": 1.0}),
        ("배경을 어둡게", {"background_dark": 1.0}),
        ("파란 눈으로 바꿔줘", {"blue_eyes": 1.0}),
        ("화장을 지워줘", {"no_makeup": 1.0}),
    ],
)
def test_common_requests(text, wants):
    assert korean.read(text) == (wants, (), None)


@pytest.mark.parametrize(
    ("text", "wants"),
    [
        ("나이 들어 보이게 해줘", {"older"}),
        ("립스틱 지워줘", {"no_lipstick"}),
        ("웃게 하고 입 벌리지 마", {"smiling"}),
        ("덜 웃게", {"serious"}),
        ("안경을 안 쓴 얼굴", {"no_glasses"}),
        ("남자를 웃게 해줘", {"smiling"}),
        ("할머니를 젊게 해줘", {"younger"}),
        ("검은 머리를 금발로", {"blond"}),
        ("너무 어려 보여요 더 성숙하게", {"older"}),
        ("컬러 사진으로", set()),
        ("그동안 고마웠어", set()),
        ("속눈썹을 진하게", {"eyeliner"}),
        ("머리를 검은색으로", {"black_hair"}),
        ("너무 늙어 보여요", {"younger"}),
        ("화장이 너무 진해요", {"no_makeup"}),
        ("화장 안 한 얼굴로", {"no_makeup"}),
        ("이빨 안 보이게 웃어줘", {"no_teeth", "smiling"}),
    ],
)
def test_particles_negations_and_who_it_is(text, wants):
    assert set(korean.read(text)[0]) == wants


def test_amounts_belong_to_their_clause():
    assert korean.read("조금 웃게, 안경 좀 씌워줘")[0] == {"smiling": 0.5, "glasses": 1.0}


def test_years_are_counted():
    ten, twenty = (korean.read(f"{n}살 젊게 해줘")[0]["younger"] for n in (10, 20))
    assert twenty == pytest.approx(2 * ten, abs=0.02)


@pytest.mark.parametrize(
    ("text", "age"),
    [("60세로 보이게 해줘", 60), ("70대처럼 만들어줘", 75), ("30살 정도로", 30), ("60세로 보이지 않게", None),
     ("10살 젊게", None), ("스무 살로", 20), ("60세까지 늙게", 60), ("40세인데 젊게 해줘", None)],
)  # fmt: skip
def test_an_age_can_be_said(text, age):
    assert korean.read(text)[2] == age


def test_what_is_not_known_is_said():
    assert korean.read("모자를 씌워줘") == ({}, ("모자를 씌워줘",), None)
    wants, ignored, _ = korean.read("머리를 길게 그리고 모자를 씌워줘")
    assert wants == {"hair_long": 1.0} and ignored == ("모자를 씌워줘",)


def test_other_scripts_are_not_korean():
    assert not korean.written("make her smile") and not korean.written("笑って") and korean.written("웃게 해줘 ok")
