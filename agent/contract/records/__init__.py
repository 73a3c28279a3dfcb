"""The records of the contract, as they are sent. `make api` turns the annotations into JSON Schema."""
