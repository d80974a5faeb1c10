"""The on-disk matrices that every stage reads and writes, and jobs that can be killed.

Nothing here holds a corpus's ids, texts or vectors: matrices are memory-mapped, ids are hashed (16
bytes a passage) or read past.  Knows no models and no fusion.
"""

from xqg_pyserini.stores.ids import (
    DuplicateId,
    IdIndex,
    copy_ids,
    ids_at,
    index_ids,
    iterate_ids,
    repeated_id,
    write_distinct_ids,
    write_ids,
)
from xqg_pyserini.stores.jobs import Job, resumable
from xqg_pyserini.stores.pair import Block, StorePair
from xqg_pyserini.stores.placing import GivenOnce, placed, unknown_passage
from xqg_pyserini.stores.recorded import check_recorded, is_whole, record_files, recorded_files
from xqg_pyserini.stores.shards import (
    Shard,
    Shards,
    ShardSettings,
    check_chosen,
    check_complete,
    check_one_whole,
    planned,
    shard_folders,
)
from xqg_pyserini.stores.store import (
    COUNTS,
    DTYPES,
    FORMAT,
    IDS,
    META,
    PASSAGES,
    QUERY_SUMS,
    VECTORS,
    QueryStore,
    VectorStore,
    block_rows,
    check_dtype,
    create_matrix,
    reopen_matrix,
    store_meta,
    sum_file,
    sums_meta,
)
