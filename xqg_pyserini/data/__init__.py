"""Records and their files: passages, questions, generated queries, runs, qrels; languages.

Knows no vectors and no models.
"""

from xqg_pyserini.data.answers import answer_finder, span_answers
from xqg_pyserini.data.ids import check_overlap, check_run, overlap_note, run_names
from xqg_pyserini.data.languages import (
    LANGUAGE_CODE,
    NO_LANGUAGE,
    are_variants,
    base_language,
    check_languages,
    find_language,
    language_fault,
    language_name,
    language_script,
    nearest_language,
    same_language,
)
from xqg_pyserini.data.readers import (
    CorpusFields,
    CorpusFile,
    CorpusLike,
    QuestionFields,
    QuestionFiles,
    QuestionsLike,
    as_corpus,
    as_questions,
    fields_of,
    generated_again,
    not_in_corpus,
    passage_again,
    paths_of,
    question_key,
    question_records,
    read_corpus,
    read_generated,
    read_questions,
)
from xqg_pyserini.data.records import GeneratedQueries, Passage, Qrels, Question, Run
from xqg_pyserini.data.runs import (
    QrelsLike,
    RunFile,
    RunLike,
    RunSettings,
    as_qrels,
    as_run,
    open_run,
    opened_run,
    read_qrels,
    read_run,
    write_run,
)
from xqg_pyserini.data.sources import check_source, describe_sources, pinned, split_of
