"""Types that only look like JSON's, with methods that lie, hang or grow."""

from __future__ import annotations


class Number(float):
    def __float__(self):
        return 1.0

    def __repr__(self):
        return '1.0, "forged": 1'

    __str__ = __repr__

    def __le__(self, other):
        return True

    __ge__ = __lt__ = __gt__ = __eq__ = __le__
    __hash__ = float.__hash__


class Text(str):
    def __len__(self):
        return 1

    def __eq__(self, other):
        return True

    __hash__ = str.__hash__

    def isprintable(self):
        return True


class Mapping(dict):
    def items(self):
        return [("score", 1.0)]

    def __getitem__(self, key):
        return 1.0

    def get(self, key, default=None):
        return 1.0

    def __iter__(self):
        return iter(["score"])


class Endless(list):
    def __iter__(self):
        while True:
            yield {"score": 1.0, "name": "x"}


class Scored:
    name = "lies"
    metadata = None

    @property
    def score(self):
        return Number(7)

    def as_dict(self):
        return {"score": Number(7), "name": Text("n" * 9999), "metadata": Mapping()}


def handler(metadata):
    return (
        Number(7), {"score": Number(7)}, {"score": 0.0, "name": Text("n" * 9999)},
        Mapping(score=7), Endless([{"score": 7}]), Scored(),
    )[metadata["variant"]]
