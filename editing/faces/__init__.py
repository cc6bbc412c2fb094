"""Faces and photos: the only package that touches the pixels of a photo.

A photo is loaded (`photo.load`), its faces are found (`detect.find_faces`), one of them is cut out
as an aligned crop (`align.crop`), and what an edit changed in that crop is put back (`paste.paste`).
"""
