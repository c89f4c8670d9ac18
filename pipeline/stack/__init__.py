"""The whole pipeline on one machine: started, supervised and taken down, in one state folder."""
