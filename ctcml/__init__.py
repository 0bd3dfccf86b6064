"""Everything about circulating tumour cells that is true without a server."""
