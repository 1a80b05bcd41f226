"""The dataset: payloads to tables, tables to files, files into place; looking at a finished one."""
