"""What a run and its diagnosis look like: pictures, the HTML report, the concepts page."""
