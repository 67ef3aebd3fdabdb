"""The worker: takes shards of documents from a coordinator and answers with gradients."""
