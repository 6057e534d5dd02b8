"""Curation of a data set: duplicates, splits without leaks, and lists of pairs, all beside its shards.

<uri>/_links/      which rows are linked and why: duplicates, the same person, the same product
<uri>/_splits/     a file a data shard: each row's split, component, duplicate and garment group
<uri>/_pairs/      a file a data shard: paired and unpaired lists

Every step is a stream of tasks over groups of data shards. What belongs together is brought together by an external
shuffle through files, so that no process holds more than a partition, the same code runs in process and on Ray, and
a step that was killed goes on from the files that are there.
"""
