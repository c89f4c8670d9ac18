"""The one part that is compiled. All else about the package is in pyproject.toml, whose own way to say this is an experiment.

Without a compiler or Python's headers the installation goes on, and numpy does what this would (pipeline/ledger/native.py).
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "pipeline.ledger._fold",
            ["pipeline/ledger/_fold.c"],
            # What it is compiled with is said here.
            depends=["setup.py"],
            extra_compile_args=["-std=c11", "-O3", "-Wall", "-Wextra", "-Werror=implicit-function-declaration"],
            optional=True,
        )
    ]
)
