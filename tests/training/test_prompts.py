"""Prompts from file names and from a column."""

from __future__ import annotations

import pytest

from tryon.training.prompts import words_in, words_of


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("t-shirt (1).jpg", "t-shirt"),
        ("T-Shirt_02 (3).JPEG", "t-shirt"),
        ("/photos/shirt(2).jpg", "shirt"),
        ("s3://bucket/garments/red-summer-dress_02.png", "red summer dress"),
        ("https://shop.example/img/v-neck%20top%20(2).jpg?v=3#zoom", "v-neck top"),
        ("C:\\photos\\hoodie-12.JPG", "hoodie"),
        ("long-sleeve-t-shirt.webp", "long sleeve t-shirt"),
        ("shirt1.jpg", "shirt"),
        ("cardigan_v2.jpg", "cardigan v2"),
        ("T-shirt-01-02.jpg", "t-shirt"),
        ("levi's 501.jpg", "levi's"),
        ("polo.shirt.png", "polo shirt"),
        ("dress", "dress"),
        ("Élégante_robe-d'été (12).png", "élégante robe d'été"),
        ("jacke\u0308.jpg", "jack\u00eb"),
        ("блузка_01.jpg", "блузка"),
        ("シャツ 3.png", "シャツ"),
        ("00034_00.jpg", ""),
        ("(1).jpg", ""),
        ("-_.png", ""),
        ("", ""),
    ],
)
def test_words_of_a_file_name(uri: str, words: str) -> None:
    assert words_of(uri) == words


@pytest.mark.parametrize(
    ("metadata", "words"),
    [('{"text": " a red top "}', "a red top"), ('{"text": null}', ""), ('{"other": 1}', ""), (None, ""), ("", "")],
)
def test_words_in_a_column(metadata: str | None, words: str) -> None:
    assert words_in(metadata, "text") == words


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("{", "metadata '{' is no JSON"),
        ("[1]", r"metadata '\[1\]' is no JSON object"),
        ('{"text": 3}', "metadata has text = 3, which is no text"),
    ],
)
def test_a_column_that_cannot_be_read_is_quoted(metadata: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        words_in(metadata, "text")
