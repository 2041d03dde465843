"""Commands of their own file; `cli` names them all. Heavy libraries are imported once a command runs."""
