#compdef codexgate

_codexgate_completion() {
  eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _CODEXGATE_COMPLETE=complete_zsh codexgate)
}

compdef _codexgate_completion codexgate
