"""Pipelines of spaCy that are trained with our optimizers, as a configuration names them, and with thinc's."""

from typing import Any

import pytest

spacy = pytest.importorskip("spacy", reason="trains pipelines of spaCy where that is installed")

from spacy.training import Example  # noqa: E402
from spacy.util import fix_random_seed, load_model_from_config, minibatch  # noqa: E402
from thinc.api import Config  # noqa: E402

import fusedstep.thinc  # noqa: E402

EPOCHS = 6
TEXTS = [
    ("The river Seine flows through Paris .", ["O", "O", "B-LOC", "O", "O", "B-LOC", "O"], "geography"),
    ("Adam and momentum make smaller losses .", ["O"] * 7, "learning"),
    ("Vienna is on the Danube .", ["B-LOC", "O", "O", "O", "B-LOC", "O"], "geography"),
    ("Gradients of the last layer come first .", ["O"] * 8, "learning"),
    ("A warm wind blows from Africa to Sicily .", ["O"] * 5 + ["B-LOC", "O", "B-LOC", "O"], "geography"),
    ("Batches of ten examples are too small for this network .", ["O"] * 11, "learning"),
] * 4
CONFIG = """
[nlp]
lang = "en"
pipeline = ["textcat","ner"]

[components]

[components.textcat]
factory = "textcat"

[components.ner]
factory = "ner"

[training]

[training.optimizer]
@optimizers = "{name}"
L2 = 0.01
L2_is_weight_decay = true
grad_clip = 1.0
use_averages = {averages}
learn_rate = 0.002
"""


def examples(nlp: Any) -> list[Any]:
    made = []
    for text, tags, category in TEXTS:
        words = text.split()
        cats = {each: float(each == category) for each in ("geography", "learning")}
        doc = spacy.tokens.Doc(nlp.vocab, words=words)
        made.append(Example.from_dict(doc, {"words": words, "entities": tags, "cats": cats}))
    return made


def train(name: str, averages: bool) -> tuple[list[dict[str, float]], Any, Any]:
    """The losses of each epoch, the optimizer, and scores of a text with averaged weights."""
    fix_random_seed(0)
    config = Config().from_str(CONFIG.format(name=name, averages=str(averages).lower()))
    nlp = load_model_from_config(config, auto_fill=True)
    optimizer = nlp.initialize(lambda: examples(nlp))
    losses = []
    for _ in range(EPOCHS):
        of_epoch: dict[str, float] = {}
        for batch in minibatch(examples(nlp), 8):
            nlp.update(batch, sgd=optimizer, losses=of_epoch)
            optimizer.step_schedules()
        losses.append(of_epoch)
    with nlp.use_params(optimizer.averages or {}):
        cats = nlp("The Danube flows through Vienna .").cats
    return losses, optimizer, cats


@pytest.mark.parametrize("averages", [False, True])
@pytest.mark.parametrize("name", ["Adam.v1", "RAdam.v1"])
def test_losses_agree_to_six_digits(name: str, averages: bool) -> None:
    expected, by_thinc, expected_cats = train(name, averages)
    losses, optimizer, cats = train(f"fusedstep.{name}", averages)
    assert type(optimizer) is fusedstep.thinc.Optimizer
    assert list(optimizer.nr_update.values()) == list(by_thinc.nr_update.values())  # keys count the networks
    assert expected[-1]["textcat"] < expected[0]["textcat"]
    for own, right in zip(losses, expected, strict=True):
        assert own == pytest.approx(right, rel=1e-6, abs=1e-9)
    assert cats == pytest.approx(expected_cats, rel=1e-5)
