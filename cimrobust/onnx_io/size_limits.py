"""Sizes above which a model file is refused before memory is spent on it."""

from __future__ import annotations

#: Largest model file: protobuf cannot hold more, larger networks keep their tensors in external
#: data files.
MAX_MODEL_BYTES = 2**31 - 1

#: Largest tensor, and largest sum of tensors of a model that is written into one file: a protobuf
#: message holds no more, less 64 MiB for the graph itself. In memory a model may have more.
MAX_TENSOR_BYTES = 2**31 - 2**26

#: Most bytes of tensors of a model that a session is opened from in memory; of a file with more, a
#: session maps the data.
MOST_SESSION_BYTES = 2**27

#: Largest external data file that is read; how much of its data is held, memory decides.
MAX_EXTERNAL_FILE_BYTES = 2**38

#: Largest intermediate tensor of one sample (or of the batch the file fixes) with a shape that the
#: file determines.
MAX_ACTIVATION_BYTES = 2**31

#: Deepest nesting of `If`, `Loop` and `Scan` bodies.
MAX_GRAPH_DEPTH = 16

#: Most axes of a tensor; NumPy's own limit is 64.
MAX_RANK = 32

#: Most nodes, after functions are inlined.
MAX_NODES = 500_000

#: Largest tensor, in elements, that shape arithmetic is folded to.
MAX_SHAPE_ELEMENTS = 4096

#: Most times that the body of a loop may run for one input, loops around it counted. Each takes a
#: runtime some microseconds, and an analysis runs a network thousands of times.
MAX_ITERATIONS = 10_000_000

#: Most times that the twin runs the body of a loop, some seconds: it is run for every step of a
#: search.
MAX_TWIN_ITERATIONS = 100_000

#: Least number of bytes that tensors computed from constants may take together, and how many times
#: the bytes of the file's tensors they may take if that is more: a few steps of arithmetic on every
#: weight.
MIN_COMPUTED_BYTES, MAX_COMPUTED_SHARE = 2**28, 8

#: Most multiplications of matrix products that are computed from constants.
MAX_COMPUTED_PRODUCTS = 2**34

#: Oldest operator set; older ones differ in the meaning of broadcasting and normalisation.
MIN_OPSET = 7

#: Oldest IR version: files before it carry no operator set version.
MIN_IR_VERSION = 3

#: Most problems that one message lists.
MAX_PROBLEMS_SHOWN = 12
