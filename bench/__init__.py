"""`python -m bench`: what CodeSmith costs beside the programs it stands next to, as ratios inside one run."""
