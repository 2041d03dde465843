"""One file a modality: see `hf_smalldata.data.modality`."""
