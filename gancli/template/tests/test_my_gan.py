"""The tests that every model of gan has to pass."""

from gancli.testing import ModelContract


class TestMyGan(ModelContract):
    model = "my_gan"
