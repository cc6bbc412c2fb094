"""One module a view of the page; each has `show()`."""
