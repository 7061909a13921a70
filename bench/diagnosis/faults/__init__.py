"""One file for each symptom: how it is brought about, in grades from harmless to fatal."""
