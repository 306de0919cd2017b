"""The inside of the sandbox, a program of its own: it shuts itself in, then runs one piece of code after another.

Nothing but the standard library is imported, and nothing here trusts the code. Four processes:

    the door      makes the namespaces and a root of its own, gives up root, waits
    the keeper    pid 1 in there; reads programs from standard input, and tells what became of each
    the warden    pid 1 of namespaces made for one program; when it ends, the kernel kills everything inside
    the program   in a user namespace without capabilities, under limits

It stands apart from the package, and so its files import one another by relative names.
"""
