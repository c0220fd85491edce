"""The report says everything an explanation holds."""

import torch
from PIL import Image

from captum_tgrad.explanation import Explanation, Prediction, TermScore, format_report

EXPLANATION = Explanation(
    image=Image.new("RGB", (3, 2)),
    predictions=(Prediction(967, "espresso", 0.9512), Prediction(968, "cup", 0.0151)),
    target=Prediction(968, "cup", 0.0151),
    logit=4.25,
    attribution=torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 3.5]]),
    input_score=-1.25,
    bias_score=5.5,
    input_share=0.0,
    bias_share=1.0,
    largest_terms=(TermScore("features.0", 5.0, 1.0), TermScore("input", -1.25, 0.0)),
    residual=1.5e-6,
)

REPORT = """\
  most probable classes
     95.1%  espresso (967)
      1.5%  cup (968)
  explained: cup (968), probability 1.5%
    logit           +4.2500
    = input         -1.2500     0.0% of the map
    + biases        +5.5000   100.0% of the map
    + residual     +1.5e-06
  map: 2 x 3 pixels, sum of the positive scores 5.0000
  largest terms: score, and share of the map (0% if the score is negative)
    features.0                                    +5.0000   100.0%
    input                                         -1.2500     0.0%"""


def test_report_says_everything():
    assert format_report(EXPLANATION) == REPORT
