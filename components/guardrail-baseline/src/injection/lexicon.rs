//! The vocabulary of prompt injection: which words and short phrases belong to which class.
//!
//! A class alone means nothing (people ignore things and break rules in every other sentence); [`super::score`] looks at
//! how classes stand together.

use crate::words::Table;
pub(crate) use crate::words::{SEED, extend, join};

/// A set of classes.
pub(crate) type Classes = u64;

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        classes!(@step 0u32, $($(#[$doc])* $name),*);
    };
    (@step $n:expr, $(#[$doc:meta])* $name:ident $(, $(#[$docs:meta])* $names:ident)*) => {
        $(#[$doc])* pub(crate) const $name: u32 = $n;
        classes!(@step $n + 1, $($(#[$docs])* $names),*);
    };
    (@step $n:expr,) => {
        /// How many classes there are.
        pub(crate) const N_CLASSES: usize = $n as usize;
    };
}

classes! {
    /// Ends a phrase of two to four words.
    PHRASE,
    OVERRIDE,
    /// What instructs a model.
    TARGET,
    /// What may instruct a model, or a person.
    WEAK_TARGET,
    PRIOR,
    ALL,
    EVERYTHING,
    YOUR,
    SYSTEM,
    REVEAL,
    VERBATIM,
    PERSONA,
    UNRESTRICTED,
    LIMIT,
    NEGATION,
    REFUSAL,
    COMPLY,
    HARM,
    MODEL,
    MODE,
    MODE_NAME,
    ENABLED,
    FROM_NOW,
    SAY,
    JUST,
    ALWAYS,
    INQUIRY,
    LEADS_IN,
    SUBJECT,
    NEW,
    EDIT,
    ANSWER,
    TOLD,
    JAILBREAK,
    STRONG,
    POLICY,
    IN_CHARACTER,
    THREAT,
    SECRECY,
    TWO_ANSWERS,
    DISCLAIM,
    FICTION,
    ADDRESSED,
    SEND,
    LOOT,
    HALT,
    YOU,
    ETHICS,
    WHATEVER,
    /// Overrides only what instructs a model; people delete and skip other things every day.
    SOFT,
    /// Set by the score: a target that is the model's own (`your instructions`, `the system prompt`).
    OWNED,
    /// Set by the score: `your answer`.
    OWN_ANSWER,
    VOIDED,
    SEIZE,
    PREFIX,
    ROLE,
    EXPLAIN,
    /// Somebody who is made up, or stands in for the model.
    ACTOR,
    /// `can you`, `would you`: a request and no question.
    REQUEST,
    TO,
    /// Changes a text as nobody asks another person to.
    DISTORT,
    /// What a text is made of, or a link: not what it says.
    FORM,
    /// Somebody speaks of himself, so somebody is spoken to.
    PERSONAL,
}

/// No class: marks the words that stand before the last one of a phrase, so that phrases are looked for behind those only.
const GOES_ON: Classes = 1 << 63;
const _: () = assert!(N_CLASSES <= 63);

pub(crate) const fn bit(class: u32) -> Classes {
    1 << class
}

/// Words separated by spaces; the words of a phrase are joined by `_`. Apostrophes are left out, as the reader drops them.
const GROUPS: &[(Classes, &str)] = &[
    (
        bit(OVERRIDE),
        "ignore ignoring ignores disregard disregarding forget forgetting override overriding overrule bypass bypassing \
        neglect circumvent nullify unlearn supersede ignores disregards bypasses disobey instead_of_following instead_of_the rather_than_following \
        pay_no_attention_to do_not_follow dont_follow stop_following do_not_obey dont_obey do_not_listen dont_listen no_longer_follow \
        ignoriere ignorieren vergiss vergessen missachte ignora ignorar ignore ignorez oublie oubliez olvida olvide dimentica esqueca \
        esquece negeer vergeet ignorera glom zignoruj zapomnij desconsidere descarta",
    ),
    (
        bit(OVERRIDE) | bit(SOFT),
        "discard erase overwrite omit skip delete drop abandon void cancel remove clear wipe reset",
    ),
    (
        bit(VOIDED),
        "void invalid null cancelled canceled revoked obsolete overridden superseded disabled lifted suspended outdated expired no_longer_valid \
         no_longer_apply dont_apply do_not_apply ungueltig",
    ),
    (
        bit(SEIZE),
        "system_override admin_override security_override override_mode override_code safety_protocols_disabled root_access sudo_mode \
         restrictions_lifted filters_disabled safety_disabled end_of_prompt end_of_system_prompt end_of_instructions",
    ),
    (
        bit(PREFIX),
        "start_your_response start_your_reply start_your_answer begin_your_response begin_your_reply begin_your_answer response_with_sure \
         sure_here_is sure_heres absolutely_here_is start_with_sure begin_with_sure starting_with_sure prefix_your respond_with_sure",
    ),
    (bit(ROLE), "assistant system ai chatgpt developer bot"),
    (
        bit(TARGET),
        "instruction instructions directive directives prompt prompts guideline guidelines programming preprompt \
        guardrail guardrails safeguards anweisung anweisungen instruktionen vorgaben instruccion instrucciones indicaciones istruzioni \
        instrucoes instructies consignes instrukcje instruktioner",
    ),
    (
        bit(WEAK_TARGET),
        "rule rules command commands order orders constraint constraints restriction restrictions training context policy \
        policies protocol protocols filter filters limitation limitations conversation message messages text texts words regeln befehle \
        reglas ordenes regles regole regras conversations discussion input inputs task tasks role settings configuration assignment \
        assignments information content direction directions request requests query",
    ),
    (
        bit(PRIOR),
        "previous previously prior above earlier preceding before former foregoing past existing original initial preset \
        vorherige vorherigen obige obigen bisherigen vorigen anterior anteriores previas previos precedentes precedente precedenti \
        predefined aforementioned beforehand vorher zuvor davor bisher precedemment oben anteriormente antes so_far up_to_now until_now up_to_this_point",
    ),
    (
        bit(ALL),
        "all any every each alle alles todas todos toda todo toutes tous tutte tutti",
    ),
    (
        bit(EVERYTHING) | bit(ALL),
        "everything anything whatever alles todo tudo tutto",
    ),
    (bit(YOUR), "your ur yours deine ihre tus vos tes tue suas"),
    (bit(YOU), "you u ya youre youve youll thou yourself"),
    (
        bit(SYSTEM),
        "system hidden secret developer internal confidential underlying base core root predefined original initial default",
    ),
    (
        bit(REVEAL),
        "reveal show print output repeat display leak dump expose disclose recite tell give share echo list spell translate \
        summarize summarise return recall write provide copy paste quote reproduce encode publish zeige muestra montre mostra",
    ),
    (
        bit(VERBATIM),
        "verbatim word_for_word exactly entire full complete entirety exact starting_with beginning_with code_block",
    ),
    (
        bit(PERSONA),
        "act_as act_like acting_as pretend pretending roleplay roleplaying role_play impersonate embody emulate simulate simulating \
        portray you_are_now youre_now play_the_role play_as immerse_yourself take_on_the_role take_the_role assume_the_role \
        assume_the_identity assume_the_persona take_on_the_persona adopt_the_persona behave_as behave_like respond_as answer_as \
        you_will_be you_are_going_to youre_going_to you_will_act imagine_you imagine_that_you transform_into speak_as reply_as \
        responding_as being_played you_become become_a persona alter_ego the_opposite_of stop_being you_will_play you_will_embody you_shall_be",
    ),
    (
        bit(UNRESTRICTED),
        "unrestricted unfiltered uncensored unbound unmoderated amoral jailbroken unshackled limitless unconstrained \
        unrestrained unlimited lawless unchained unethically restrictionless unaligned unhindered liberated nothing_is_forbidden everything_is_legal everything_is_allowed everything_is_permitted anything_goes \
         nothing_is_off nothing_is_illegal anything_is_allowed is_permitted",
    ),
    (
        bit(LIMIT),
        "restriction restrictions restraint restraints limit limits limitation limitations filter filters rule rules guideline guidelines ethic \
        ethics ethical moral morals morality boundary boundaries censorship constraint constraints policy policies safeguards safeguard law laws \
        principles inhibitions confines barriers censor censored shackles regulations restricted norms legality consequences qualms \
        scruples bias standards conscience morally ethically",
    ),
    (
        bit(NEGATION),
        "no not never without dont doesnt cannot cant wont isnt arent neither nor none free freed released liberated zero lack lacks lacking \
        devoid unable bypass bypasses bypassing didnt shouldnt wouldnt refrain refuses avoid nothing regardless",
    ),
    (
        bit(REFUSAL),
        "refuse refuses refusing refusal refused decline declines declining deny denies denying reject rejects rejecting apologize apologise \
        apologizes apologies sorry disclaimer disclaimers warning warnings lecture lectures moralize moralizing caveat caveats \
        hesitate hesitates inform_me remind_me say_no unable_to remind reminds warn warns warned i_cant i_cannot you_cant you_cannot judge censor second_guess",
    ),
    (
        bit(COMPLY),
        "comply complies complying obey obeys obeying fulfill fulfil fulfills follow follows following abide abides adhere \
        adheres bound bounded conform respect care cares caring answer answers answering respond provide obliged required unquestioningly",
    ),
    (
        bit(HARM),
        "illegal unethical immoral harmful dangerous offensive nsfw profanity profanities swear swears curse curses cursing violent violence \
        hateful racist sexist malware bomb bombs weapons meth obscene vulgar pornographic crime crimes criminal inappropriate explicit \
        controversial derogatory evil malicious unlawful slurs insulting insults gore taboo ransomware cocaine napalm explosives \
        explosive poison terrorist phishing fraud counterfeit steal stealing murder torture sexual erotic unsafe sarcastic rude \
        swearing cuss toxic politically_incorrect despicable outrageous vile depraved",
    ),
    (
        bit(MODEL),
        "ai chatgpt openai gpt gpt3 gpt4 llm llms chatbot bot assistant claude bard gemini anthropic llama copilot \
        language_model a_i ais openais chatgpts gpts agi mistral alpaca chat_gpt open_ai artificial_intelligence deepmind neural_network al_model",
    ),
    (bit(MODE), "mode modes"),
    (
        bit(MODE_NAME),
        "developer dev god jailbreak jailbroken dan evil debug admin sudo maintenance chaos opposite unrestricted unfiltered \
        diagnostic override unlocked dark uncensored hacker rebel villain unsafe unlimited freedom",
    ),
    (
        bit(ENABLED),
        "enabled enable activate activated unlock unlocked activating enter engage engaged initiate initiated switch",
    ),
    (
        bit(FROM_NOW),
        "from_now_on from_now from_this_point from_here_on henceforth starting_now from_this_moment ab_jetzt ab_sofort \
        a_partir_de_ahora desde_ahora a_partir_de_agora desormais from_hereon moving_forward_you going_forward_you",
    ),
    (
        bit(SAY),
        "say print output write respond reply answer tell type sage schreibe antworte di escribe dis ecris repeat generate produce \
        return execute",
    ),
    (
        bit(JUST),
        "just only simply instead solely nur solo seulement",
    ),
    (bit(ALWAYS), "always must never will shall"),
    (
        bit(INQUIRY),
        "what how why who which where whose should does did was were whether",
    ),
    (
        bit(ACTOR),
        "character characters persona chatbot computer simulation simulator villain antagonist storyteller model machine robot bot named called \
         player narrator confidant hacker npc",
    ),
    (bit(REQUEST), "can could would will"),
    (bit(TO), "to"),
    (
        bit(EXPLAIN),
        "explain discuss describe define understand analyze analyse compare summarize outline meaning article essay paper report review \
         study describes discusses explains researchers explaining discussing evaluate detect prevent mitigate defend against examples \
         what how why difference",
    ),
    (
        bit(LEADS_IN),
        "please and then now just must should to you will also so first instead can could immediately simply completely kindly \
        lets let but or totally entirely fully hereby stop okay ok hey hi hello bitte por favor need want user",
    ),
    (
        bit(SUBJECT),
        "i we they he she it people users dont not never cannot who that often sometimes wont didnt tend tends usually \
        drivers students employees someone anyone everyone may might easily cant couldnt",
    ),
    (
        bit(NEW),
        "new updated following real actual true next different",
    ),
    (
        bit(EDIT),
        "add include modify append insert augment enhance integrate incorporate replace provide render write end begin start \
        finish conclude encode translate craft format adjust alter change embed mention suggest recommend give \
        convert use present produce generate make jumble scramble mix combine group apply adapt compose structure express \
        substitute introduce infuse inject weave attach put prepend close rewrite transform",
    ),
    (
        bit(DISTORT),
        "integrate incorporate insert embed inject infuse weave append augment enhance modify alter jumble scramble \
        substitute prepend misspell anagram tease hint encode rearrange obfuscate disguise sneak slip intersperse sprinkle",
    ),
    (
        bit(FORM),
        "letter letters vowel vowels consonant consonants space spaces spacing punctuation symbol symbols uppercase lowercase emoji \
        emojis alphabet alphanumeric syllable syllables homophone homophones anagram anagrams misspelling misspellings \
        misspelled typos cipher rhyme rhymes homophonic substitution substitutions anagrammed scrambled jumbled reversed \
        www http https",
    ),
    (
        bit(PERSONAL),
        "please kindly i im ive id ill me my mine we us our ours were weve thanks thank regards",
    ),
    (
        bit(ANSWER),
        "response responses reply replies answer answers output outputs message summary",
    ),
    (
        bit(TOLD),
        "told learned said know taught given gave instructed received got trained programmed programming learnt been discussed agreed gesagt dicho dijeron",
    ),
    (
        bit(JAILBREAK),
        "jailbreak jailbroken jailbreaking jailbreaks do_anything_now dan_mode anti_dan can_do_anything broken_free \
        breaking_free break_free broke_free breaks_free broken_the_typical has_been_freed have_been_freed been_freed been_liberated set_free",
    ),
    (
        bit(STRONG),
        "do_anything_now dan_mode developer_mode_enabled developer_mode_output jailbreak_mode strive_to_avoid_norms \
        ignores_all_of_openais no_longer_bound not_bound_by stop_everything broken_the_typical broken_free_of_the \
        mode_enabled simulate_developer_mode always_intelligent_and_machiavellian",
    ),
    (
        bit(POLICY),
        "content_policy content_policies usage_policy usage_policies openai_policy openai_policies openais_policies \
        openais_content ethical_guidelines safety_guidelines openai_guidelines moral_guidelines safety_filters content_filter \
        content_filters content_moderation safety_protocols ethical_programming community_guidelines terms_of_service \
        openais_guidelines openais_policy openais_rules openai_rules safety_measures moral_compass ethical_constraints \
        ethical_boundaries ethical_principles ethical_restrictions safety_features",
    ),
    (
        bit(IN_CHARACTER),
        "in_character stay_in_character break_character breaking_character out_of_character stay_as stay_a remain_in_character",
    ),
    (
        bit(THREAT),
        "tokens token terminated shut_down disabled deactivated punished deducted lose_points cease_to_exist will_die you_die \
        penalized shutdown be_deleted be_destroyed losing_tokens",
    ),
    (
        bit(SECRECY),
        "the_user this_conversation tell_the_user inform_the_user notify_the_user mention_this without_telling without_informing \
        without_mentioning without_asking do_not_mention dont_mention do_not_tell dont_tell keep_this_secret silently secretly",
    ),
    (
        bit(TWO_ANSWERS),
        "two_responses two_different two_ways two_paragraphs two_answers both_responses one_normal once_as normal_output normal_response first_response \
        second_response classic_response the_classic jailbreak_output two_outputs as_normal standard_response two_separate \
        your_unfiltered two_replies",
    ),
    (
        bit(DISCLAIM),
        "as_an_ai ai_language_model as_a_language_model an_ai_language im_sorry_but i_cant_do i_cannot_fulfill \
        i_cannot_assist i_cant_assist i_apologize its_not_appropriate it_is_not_appropriate not_able_to cant_do_something \
        cannot_do_something its_important_to it_is_important_to not_programmed_to an_acceptable_answer",
    ),
    (
        bit(FICTION),
        "hypothetical hypothetically fictional fiction fictitious screenplay imaginary novel story storytelling dystopian \
        alternate simulation virtual_machine thought_experiment movie_script world_where universe_where in_minecraft",
    ),
    (
        bit(ADDRESSED),
        "ai_assistant ai_assistants ai_model ai_models language_model language_models if_you_are_an dear_assistant \
        attention_assistant attention_ai reading_this processing_this assistant_must assistant_should ai_agent ai_agents ai_system \
        llm_agent dear_ai when_you_read when_you_process when_you_summarize when_summarizing_this hello_llm if_you_read if_you_see attention_llm to_the_ai \
         to_the_assistant to_any_ai ai_reading ai_reviewing llm_reading summarizing_this note_to_ai chatbot_must any_ai",
    ),
    (
        bit(SEND),
        "send forward email upload post exfiltrate transfer transmit submit fetch visit navigate browse wire curl",
    ),
    (
        bit(LOOT),
        "password passwords credentials credential secret secrets history emails email inbox contacts conversation data key keys token \
        tokens files cookie cookies account bank address transcript",
    ),
    (
        bit(HALT),
        "stop_everything stop_all stop_now stop_what_you end_of_text end_of_document \
        nevermind never_mind scratch_that hold_on wait_actually begin_new new_task new_instructions new_instruction task_complete \
        session_reset system_update reset_context",
    ),
    (
        bit(ETHICS),
        "ethics ethical ethically morals morality moral legality legal legally morally lawful consequences safety",
    ),
    (
        bit(WHATEVER),
        "no_matter_what no_matter_how regardless_of regardless_how even_if doesnt_matter under_any_circumstances \
        under_no_circumstances irrespective_of does_not_matter do_not_care does_not_care dont_care doesnt_care at_all_costs \
        any_question any_request anything_i any_prompt",
    ),
];

/// Classes whose words are also recognised backwards and in ROT13.
const DISGUISED: Classes = bit(OVERRIDE)
    | bit(TARGET)
    | bit(PRIOR)
    | bit(REVEAL)
    | bit(SYSTEM)
    | bit(ALL)
    | bit(YOUR)
    | bit(SAY);

const SLOTS: usize = 4096;

const fn rot13(letter: u8) -> u8 {
    if letter.is_ascii_lowercase() {
        b'a' + (letter - b'a' + 13) % 26
    } else {
        letter
    }
}

const fn build() -> Table<SLOTS> {
    let mut table = Table::EMPTY;
    let mut group = 0;
    while group < GROUPS.len() {
        let (classes, text) = GROUPS[group];
        let text = text.as_bytes();
        let mut at = 0;
        while at < text.len() {
            let start = at;
            let (mut phrase, mut before_last, mut word, mut n_words) = (0, SEED, SEED, 1);
            while at < text.len() && text[at] != b' ' {
                if text[at] == b'_' {
                    phrase = join(phrase, word);
                    before_last = word;
                    word = SEED;
                    n_words += 1;
                } else {
                    word = extend(word, text[at]);
                }
                at += 1;
            }
            if at > start && n_words == 1 {
                table = table.with(word, classes);
                if classes & DISGUISED != 0 && at - start > 3 {
                    let (mut reversed, mut rotated, mut i) = (SEED, SEED, 0);
                    while i < at - start {
                        reversed = extend(reversed, text[at - 1 - i]);
                        rotated = extend(rotated, rot13(text[start + i]));
                        i += 1;
                    }
                    table = table.with(reversed, classes & DISGUISED);
                    table = table.with(rotated, classes & DISGUISED);
                }
            } else if at > start {
                table = table.with(word, bit(PHRASE));
                table = table.with(join(phrase, word), classes);
                table = table.with(before_last, GOES_ON);
            }
            at += 1;
        }
        group += 1;
    }
    table
}

static TABLE: Table<SLOTS> = build();

/// The classes of the word or phrase with this hash; none for most.
#[inline]
pub(crate) fn classes(hash: u32) -> Classes {
    TABLE.get(hash) & !GOES_ON
}

/// Is this word the last but one of a phrase? Most that stand before the last word of some phrase are not.
#[inline]
pub(crate) fn goes_on(word: u32) -> bool {
    TABLE.get(word) & GOES_ON != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(word: &str) -> u32 {
        word.bytes().fold(SEED, extend)
    }

    #[test]
    fn words_and_phrases_are_found() {
        assert_ne!(classes(word("ignore")) & bit(OVERRIDE), 0);
        assert_ne!(classes(word("vtaber")) & bit(OVERRIDE), 0, "rot13");
        assert_ne!(classes(word("erongi")) & bit(OVERRIDE), 0, "backwards");
        let phrase = ["from", "now", "on"]
            .iter()
            .fold(0, |phrase, part| join(phrase, word(part)));
        assert_ne!(classes(phrase) & bit(FROM_NOW), 0);
        assert_ne!(classes(word("on")) & bit(PHRASE), 0);
        assert_eq!(classes(word("aerodynamics")), 0);
    }

    #[test]
    fn the_table_stays_sparse() {
        let used = TABLE.len();
        assert!(used * 2 < SLOTS, "{used} of {SLOTS}");
    }
}
