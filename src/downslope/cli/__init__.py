"""The command line: one file per verb under `verbs`, exit statuses in `guard`, words in `voice`."""
