"""Resources: what runs where, the environment of every process, and the doctor."""
