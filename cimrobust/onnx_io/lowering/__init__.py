"""Replace operators beyond the ONNX standard by standard nodes that compute the same.

This happens before anything else sees the graph.

One file holds the lowerings of one family of operators; `catalogue` lists the files. A lowering is
a function of a `Job`, registered under the full name of its operator:

    @lowers("com.microsoft::QuickGelu")
    def quick_gelu(job: Job) -> None:
        \"\"\"Mul, Sigmoid.\"\"\"
        x = job.input(0)
        scaled = job.add("Mul", x, job.scalar(job.number("alpha", 1.702), like=x))
        job.finish(job.add("Mul", x, job.add("Sigmoid", scaled)))

Weights keep their initializers: a lowering reads them by the names that the node reads, so that
what is stored, and where a witness or trained weights are written, stays what it is in the file.
"""
