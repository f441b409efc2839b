"""A webhook's way from the socket to the COMMIT that comes before its answer.

In its order, each file once:

routes              HTTP in and out, and the one table of statuses
request_body        the body, within bounds of size and time
intake              the whole way: find, verify, identify, commit, answer
target              the URL's source and endpoint, and the outcomes of a request
endpoint_cache      endpoints in memory, with the keys of their secrets
verification        verify the raw bytes (receiver.signatures.verify), then build the delivery
identity            which event it is, and what work it makes
group_commit        the deliveries that wait, in one transaction (storage.deliveries.recording)

Off the path of the answer:

signing_warnings    what the log says of genuine deliveries
quarantine_writer   keeps refused requests
rejected            explains them, and lets in those that prove genuine after all
"""
