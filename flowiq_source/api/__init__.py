"""An HTTP answer becomes a page: the client, its rate limit, what an answer means."""
