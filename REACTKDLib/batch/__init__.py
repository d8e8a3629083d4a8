"""Many cases, each on its own: manifest or folder in, one result folder per case and tables out.

``manifest`` and ``folders`` read what is to be done, ``plan`` checks it, ``store`` owns the output
folder, ``task`` does one case, ``on_dask`` many, ``tables`` sums up, ``run`` is all of it.
"""
