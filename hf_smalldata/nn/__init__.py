"""Parts of networks that several techniques need: blocks, frozen parts, heads, losses."""
