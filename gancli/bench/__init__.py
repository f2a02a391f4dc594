"""What `gan bench` measures, a module each; the command itself is `gancli.commands.bench`."""
