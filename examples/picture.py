"""Draws what `digits.py` found: the loss curves of NumPy and fusedstep over each other, and their times side by side."""
from pathlib import Path
from training import Comparison
def draw(comparisons: list[Comparison], out: Path, subtitle: str) -> None: 
    import pickle; pickle.dump((comparisons,subtitle), open('/tmp/ex/c.pkl','wb'))
