"""What is remembered of each user: a document that they, their graphs and a model write."""
