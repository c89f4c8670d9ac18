"""Where a second opinion is not AWS: (target, test) -> what it does instead. Each must fail, or the entry goes."""

from __future__ import annotations

LOST_PARENT = "a split or merge removes the parent shard and its records"
NO_RATES = "never throttles"

MINISTACK = {
    "test_a_second_subscription_within_five_seconds_is_refused": "takes any number of subscriptions",
    "test_the_last_event_of_a_closed_shard_names_its_children": LOST_PARENT,
    "test_a_sequence_number_of_another_shard_is_refused": "takes any sequence number",
    "test_a_forged_iterator_is_refused": "calls it expired",
    "test_five_reads_a_second_and_no_more": NO_RATES,
    "test_a_parent_is_readable_after_its_split": LOST_PARENT,
    "test_what_comes_after_a_split_is_in_the_children": LOST_PARENT,
    "test_the_lineage_of_a_split_is_listed": LOST_PARENT,
    "test_the_end_of_a_parent_names_its_children": LOST_PARENT,
    "test_a_merge_joins_two_neighbours": LOST_PARENT,
    "test_a_closed_shard_is_not_split_again": "calls a closed shard not found",
    "test_an_edge_outside_the_shard_is_refused": "answers ValidationException",
    "test_a_count_is_reached_with_equal_shards": LOST_PARENT,
    "test_a_count_may_not_more_than_double": "scales to any count",
    "test_shards_are_listed_in_pages": "wants the stream's name beside NextToken",
    "test_a_page_token_stands_alone": "takes a name beside NextToken",
    "test_retention_has_bounds_and_directions": "answers ValidationException",
    "test_a_hash_key_outside_the_space_is_refused": "takes any hash key",
    "test_a_shard_over_its_rate_fails_single_records": NO_RATES,
    "test_one_busy_shard_does_not_throttle_its_neighbour": NO_RATES,
    "test_a_single_put_over_the_rate_is_an_error": NO_RATES,
}
NO_FANOUT = "its event stream lacks the initial-response that boto3 wants first"
KINESIS_LOCAL = {
    "test_a_subscription_pushes_what_is_there": NO_FANOUT,
    "test_a_second_subscription_within_five_seconds_is_refused": NO_FANOUT,
    "test_a_subscription_goes_on_from_its_continuation_number": NO_FANOUT,
    "test_the_last_event_of_a_closed_shard_names_its_children": NO_FANOUT,
    "test_a_sequence_number_of_another_shard_is_refused": "takes any sequence number",
    "test_a_forged_iterator_is_refused": "answers HTTP 500",
    "test_five_reads_a_second_and_no_more": NO_RATES,
    "test_a_closed_shard_is_not_split_again": "answers ResourceInUseException",
    "test_a_count_is_reached_with_equal_shards": "hash ranges are one off",
    "test_shards_share_the_whole_hash_space_equally": "hash ranges are one off",
    "test_an_explicit_hash_key_overrides_the_partition_key": "hash ranges are one off",
    "test_five_hundred_and_one_records_are_refused_whole": "takes more than 500 records",
    "test_a_record_over_one_mebibyte_fails_the_whole_call": "takes 10 MiB though the stream's limit is 1 MiB",
    "test_a_shard_over_its_rate_fails_single_records": NO_RATES,
    "test_one_busy_shard_does_not_throttle_its_neighbour": NO_RATES,
    "test_a_single_put_over_the_rate_is_an_error": NO_RATES,
}

DEVIATIONS: dict[tuple[str | None, str], str] = {
    (target, test): reason
    for target, tests in (("ministack", MINISTACK), ("kinesis-local", KINESIS_LOCAL))
    for test, reason in tests.items()
}
