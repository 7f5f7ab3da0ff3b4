"""What other programs and people have kept, read as drafts of memories; one module a kind of file.

Pure: a reader is handed a text stream and yields what it finds, so a file of any size takes little
memory. Nothing here opens a file, knows a store, or stops at what it cannot read.
"""
