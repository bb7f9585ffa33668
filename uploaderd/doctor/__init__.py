"""Will it work? Looks at everything that uploads depend on, before it is needed, and says what to mend.

`configuration`, `ledger`, `sources` and `providers` each look at their subject; `trial` carries out a
real small upload; `examining` puts them together; `findings` has what a look comes to, and its time limit.
Works beside a running daemon or without one; writes nothing but its own trial objects, which it deletes.
"""
