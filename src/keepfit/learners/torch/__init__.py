"""Networks of PyTorch: trained from scratch, from pretrained weights, or from the champion.

learners.Torch()                                      a network for tables
learners.Torch(resnet, lr=3e-4, freeze="layer[1-3]")  your own, with its first layers held
learners.Torch(resnet, train=my_loop)                 your own, and your own loop
"""

from keepfit.learners.torch.learner import Torch
from keepfit.learners.torch.model import TorchModel, restore
from keepfit.learners.torch.transfer import Transfer

__all__ = ["Torch", "TorchModel", "Transfer", "restore"]
