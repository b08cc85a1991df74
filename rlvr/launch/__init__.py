"""From a recipe to a job on a cluster: files rendered from launch/, and their submission."""
