"""Adapters: a few new weights beside a frozen network (peft)."""
