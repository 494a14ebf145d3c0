"""`python -m fusedstep.book` with the second volume, on a small folder that is laid out as its folder is."""

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import book2_formulas as formulas

HEADER = "from typing import Any\nfrom common.np import *\nfrom common.config import GPU\n_random = np.random\n"

OPTIMIZERS = """
class SGD:
    def __init__(self, lr=0.01):
        self.lr = lr

    def update(self, params, grads):
        for w, g in zip(params, grads):
            w -= self.lr * g

class AdaGrad:
    def __init__(self, lr=0.01):
        self.lr, self.h = lr, None

    def update(self, params, grads):
        self.h = self.h or [0.0] * len(params)
        for n, (w, g) in enumerate(zip(params, grads)):
            self.h[n] = self.h[n] + g * g
            w -= self.lr * g / (np.sqrt(self.h[n]) + 1e-7)

class Adam:
    def __init__(self, lr=0.001, beta1=0.9, beta2=0.999):
        self.lr, self.beta1, self.beta2 = lr, beta1, beta2
        self.iter, self.m, self.v = 0, None, None

    def update(self, params, grads):
        self.m, self.v = self.m or [0.0] * len(params), self.v or [0.0] * len(params)
        self.iter += 1
        lr_t = self.lr * np.sqrt(1 - self.beta2**self.iter) / (1 - self.beta1**self.iter)
        for n, (w, g) in enumerate(zip(params, grads)):
            self.m[n] = self.m[n] + (1 - self.beta1) * (g - self.m[n])
            self.v[n] = self.v[n] + (1 - self.beta2) * (g**2 - self.v[n])
            w -= lr_t * self.m[n] / (np.sqrt(self.v[n]) + 1e-7)
"""

TRAINER = """
from common.util import clip_grads

class Trainer:
    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer

    def fit(self, batches, max_grad=None):
        for batch in batches:
            loss = self.model.forward(*batch)
            self.model.backward()
            params, grads = remove_duplicate(self.model.params, self.model.grads)
            if max_grad is not None:
                clip_grads(grads, max_grad)
            self.optimizer.update(params, grads)
            print(FORMAT % loss)
"""

# As in cbow.py and in a recurrent model, whose output layer has the embedding's matrix transposed.
MODELS = """
import sys
from common.layers import *
from common.time_layers import *
from NEGATIVE_SAMPLING import NegativeSamplingLoss

def words(*arguments):
    return Cbow(sys.modules[__name__], *arguments)

class Tied:
    def __init__(self, W):
        self.embed, self.params = TimeEmbedding(W), [W, W.T]
        self.grads = [self.embed.grads[0], np.zeros_like(W.T)]

    def forward(self, xs, ts):
        self.x = self.embed.forward(xs)
        self.d = self.x @ self.params[1] - ts
        return (self.d**2).mean()

    def backward(self):
        d = 2 * self.d / self.d.size
        self.grads[1][...] = np.einsum("ntd,ntv->dv", self.x, d)
        self.embed.backward(d @ self.params[1].T)
"""

SCRIPT = """
import sys
sys.path.append("..")
from common.np import *
from common.optimizer import *
from common.trainer import Trainer
from models import words, Tied

np.random.seed(3)
corpus = np.concatenate([np.arange(60), np.random.zipf(1.5, 500).clip(1, 60) - 1])
at = np.arange(2, 502).reshape(20, 25)
model = words(60, 8, 2, corpus)
Trainer(model, OPTIMIZER).fit([(corpus[a[:, None] + [-2, -1, 1, 2]], corpus[a]) for a in at])
tied = Tied(np.random.randn(60, 8).astype("f"))
xs = np.random.randint(0, 60, (8, 3, 4))
Trainer(tied, OPTIMIZER).fit([(x, np.eye(60, dtype="f")[x]) for x in xs], max_grad=0.25)
print(np.random.rand())
"""


def _source(*things: Any) -> str:
    return "\n".join(inspect.getsource(thing) for thing in things)


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    trainer = TRAINER.replace("FORMAT", '"%r"')
    texts = {
        "common/config": "GPU = False\n",
        "common/np": "import numpy as np\n",
        "common/layers": HEADER + _source(formulas.Embedding, formulas.SigmoidWithLoss),
        "common/time_layers": "from common.layers import *\n" + HEADER + _source(formulas.TimeEmbedding),
        "common/util": HEADER + _source(formulas.clip_grads),
        "common/trainer": HEADER + trainer + "\n" + _source(formulas.remove_duplicate),
        "common/optimizer": HEADER + OPTIMIZERS,
        "ch04/negative_sampling_layer": HEADER
        + "from common.layers import Embedding, SigmoidWithLoss\n"
        + _source(
            formulas.EmbeddingDot, formulas.UnigramSampler, formulas.SamplerAtOnce, formulas.NegativeSamplingLoss
        ),
        "ch04/models": HEADER + MODELS.replace("NEGATIVE_SAMPLING", "negative_sampling_layer") + _source(formulas.Cbow),
    }
    for name, text in texts.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path / "ch04"


def run(text: str, folder: Path, *options: str, plain: bool = False) -> tuple[str, str]:
    (folder / "script.py").write_text(text)
    command = [sys.executable, "-W", "error", *(() if plain else ("-m", "fusedstep.book", *options)), "script.py"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # the tests change modules within a second
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def change(chapter: Path, name: str, old: str, new: str) -> None:
    path = chapter.parent / f"{name}.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("optimizer", ["SGD(0.5)", "AdaGrad(0.1)"])
@pytest.mark.parametrize("sampling", ["negative_sampling_layer", "ch04.negative_sampling_layer"])
def test_a_script_prints_the_same_losses(chapter: Path, sampling: str, optimizer: str) -> None:
    change(chapter, "ch04/models", "negative_sampling_layer", sampling)
    text = SCRIPT.replace("OPTIMIZER", optimizer)
    plain = run(text, chapter, plain=True)
    assert len(set(plain[0].splitlines())) > 20
    got = run(text, chapter)
    # Losses after a clipped gradient are the same but for the order of the norm's sum.
    assert got[0].splitlines()[:20] == plain[0].splitlines()[:20]
    assert got[0].splitlines()[-1] == plain[0].splitlines()[-1]
    change(chapter, "common/trainer", '"%r"', '"%.4f"')
    rounded, told = run(text, chapter)
    assert rounded == run(text, chapter, plain=True)[0]
    assert told.startswith(
        "fusedstep.book: replaced SGD, AdaGrad, Adam of common.optimizer, clip_grads of common.util, "
    )
    assert told.endswith(f" and UnigramSampler of {sampling}\n")
    assert run(text, chapter, "--lazy") == (rounded, told)


IS_DENSE = (
    "makes gradients of embeddings dense, for the book's numbers; --lazy, before the script, or install(lazy=True) "
    "is faster without them"
)
IS_LAZY = "is lazy: words that a batch doesn't have keep their weights and moments, so the numbers aren't the book's"


def test_adam_is_lazy_only_if_it_is_asked_for(chapter: Path) -> None:
    change(chapter, "common/trainer", '"%r"', '"%.4f"')
    text = SCRIPT.replace("OPTIMIZER", "Adam(0.01)")
    plain = run(text, chapter, plain=True)[0]
    dense, err = run(text, chapter)
    assert (dense, err.splitlines()[1:]) == (plain, [f"fusedstep.book: Adam {IS_DENSE}"])
    lazy, err = run(text, chapter, "--lazy")
    assert err.splitlines()[1:] == [f"fusedstep.book: Adam {IS_LAZY}"]
    assert lazy != plain
    assert lazy.splitlines()[0] == plain.splitlines()[0]


MODULES = {
    "Embedding": "common.layers",
    "TimeEmbedding": "common.time_layers",
    "clip_grads": "common.util",
    "remove_duplicate": "common.trainer",
    "UnigramSampler": "negative_sampling_layer",
}


def line(kept: str = "", why: str = "") -> str:
    """What the runner says of NAMES, where something is kept."""
    *parts, last = [f"{name} of {module}" for name, module in MODULES.items() if name != kept]
    text = f"fusedstep.book: replaced {', '.join(parts)} and {last}"
    return text + (f"; kept {kept} ({why})\n" if kept else "\n")


NAMES = """
import sys
sys.path.append("..")
import common.layers, common.time_layers, common.trainer, common.util, models
import MODULE as sampling
found = [common.layers.Embedding, common.time_layers.Embedding, common.time_layers.TimeEmbedding]
found += [common.trainer.remove_duplicate, common.trainer.clip_grads, common.util.clip_grads]
found += [sampling.Embedding, sampling.UnigramSampler]
for thing in found + [common.layers.SigmoidWithLoss, sampling.NegativeSamplingLoss]:
    print(thing.__name__, thing.__module__)
"""


def names(chapter: Path, module: str = "negative_sampling_layer") -> tuple[list[str], str]:
    out, err = run(NAMES.replace("MODULE", module), chapter)
    return out.splitlines(), err


IN_USE = [
    "Embedding fusedstep.book",
    "Embedding fusedstep.book",
    "TimeEmbedding fusedstep.book",
    "remove_duplicate fusedstep.book",
    "clip_grads fusedstep.book",
    "clip_grads fusedstep.book",
    "Embedding fusedstep.book",
    "UnigramSampler fusedstep.book",
    "SigmoidWithLoss common.layers",
]


@pytest.mark.parametrize("module", ["negative_sampling_layer", "ch04.negative_sampling_layer"])
def test_ours_are_in_use(chapter: Path, module: str) -> None:
    change(chapter, "ch04/models", "negative_sampling_layer", module)
    assert names(chapter, module) == (
        [*IN_USE, f"NegativeSamplingLoss {module}"],
        line().replace("negative_sampling_layer", module),
    )


def test_gradients_are_rows(chapter: Path) -> None:
    text = SCRIPT.replace("OPTIMIZER", "SGD()") + "import fusedstep\n"
    text += "print([isinstance(g, fusedstep.Rows) for g in model.grads + tied.grads])\n"
    assert run(text, chapter)[0].splitlines()[-1] == str([True] * 11 + [False])


def test_a_sampler_that_draws_at_once_is_found_out(chapter: Path) -> None:
    change(chapter, "ch04/negative_sampling_layer", "at_once = False", "at_once = True")
    used, err = names(chapter)
    assert (used[7], err) == ("SamplerAtOnce fusedstep.book._trials", line())
    text = SCRIPT.replace("OPTIMIZER", "SGD(0.5)")
    plain = run(text, chapter, plain=True)[0]
    assert run(text, chapter)[0].splitlines()[:20] == plain.splitlines()[:20]


OTHER = "other numbers than the book's"
CHANGES = (
    ("common/layers", "self.grads[0].fill(0)", "pass", "Embedding", OTHER),
    ("common/layers", "np.add.at(self.grads[0], self.idx, dout)", "self.grads[0][self.idx] = dout", "Embedding", OTHER),
    ("common/layers", "return self.params[0][idx]", "return self.params[0][idx] * 2", "Embedding", OTHER),
    (
        "common/layers",
        "self.params, self.grads = [W], [",
        "self.params, self.grads = [W.copy()], [",
        "Embedding",
        OTHER,
    ),
    ("common/time_layers", "total + step", "step", "TimeEmbedding", OTHER),
    ("common/time_layers", ".astype(np.float32)", "", "TimeEmbedding", OTHER),
    ("common/trainer", "total += g.T", "pass", "remove_duplicate", OTHER),
    ("common/trainer", "if earlier is w", "if False", "remove_duplicate", OTHER),
    ("common/util", "1e-6", "1e-5", "clip_grads", OTHER),
    ("common/util", "if rate < 1:", "print(rate)\n    if rate < 1:", "clip_grads", "prints"),
    ("ch04/negative_sampling_layer", "** power", "** 0.75", "UnigramSampler", OTHER),
    ("ch04/negative_sampling_layer", "p[word] = 0", "pass", "UnigramSampler", OTHER),
    (
        "common/layers",
        "def forward(self, idx",
        "def norm(self): ...\n    def forward(self, idx",
        "Embedding",
        "has norm",
    ),
    ("common/layers", "__init__(self, W: Any", "__init__(self, W: Any, scale: Any = 1", "Embedding", "takes scale"),
    (
        "common/trainer",
        "(params: Any, grads: Any)",
        "(params: Any, grads: Any, by=0)",
        "remove_duplicate",
        "takes by",
    ),
    ("common/util", "max_norm: float)", "max_norm: float, kind=2)", "clip_grads", "takes kind"),
    (
        "ch04/negative_sampling_layer",
        "self.sample_size = sample_size\n        _",
        "self.sample_size = self.drawn = sample_size\n        _",
        "UnigramSampler",
        "has drawn",
    ),
)


@pytest.mark.parametrize(("module", "old", "new", "name", "why"), CHANGES)
def test_what_a_reader_has_changed_stays(chapter: Path, module: str, old: str, new: str, name: str, why: str) -> None:
    change(chapter, module, old, new)
    used, err = names(chapter)
    module = module.removeprefix("ch04/").replace("/", ".")
    assert used[:9] == [f"{name} {module}" if thing.split()[0] == name else thing for thing in IN_USE]
    assert err == line(name, why)


@pytest.mark.parametrize(("module", "old", "new", "name", "why"), CHANGES[3::5])  # a second each
def test_a_changed_copy_has_its_own_losses(chapter: Path, module: str, old: str, new: str, name: str, why: str) -> None:
    change(chapter, module, old, new)
    change(chapter, "common/trainer", '"%r"', '"%.4f"')
    text = SCRIPT.replace("OPTIMIZER", "SGD(0.5)")
    plain, err = run(text, chapter, plain=True)
    assert err == ""
    got, err = run(text, chapter)
    assert got == plain
    assert f"; kept {name} ({why})\n" in err


def test_modules_that_are_not_there_are_not_made(chapter: Path) -> None:
    text = "import sys\nsys.path.append('..')\n"
    for name in ("common.time_layers", "common.util", "common.trainer", "negative_sampling_layer"):
        (chapter.parent / f"{name.replace('.', '/')}.py").unlink(missing_ok=True)
        (chapter / f"{name}.py").unlink(missing_ok=True)
        text += f"try:\n    import {name}\nexcept ImportError:\n    print('{name}')\n"
    assert run(text, chapter)[0].split() == [
        "common.time_layers",
        "common.util",
        "common.trainer",
        "negative_sampling_layer",
    ]
