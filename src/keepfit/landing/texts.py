"""What text counts as a number; apart, so that a server need not import frames for it."""

from __future__ import annotations

import re

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""Text that is read as a number, with blanks around it."""
