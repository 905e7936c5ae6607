# Completion of cachetrip for PowerShell.

Register-ArgumentCompleter -Native -CommandName cachetrip -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursorPosition } | ForEach-Object { "$_" })
    $program = $words[0]
    $before = @($words | Select-Object -Skip 1)
    & $program __complete @before "=$wordToComplete" 2>$null | ForEach-Object {
        $word, $text = $_ -split [char]9, 2
        if (-not $text) { $text = $word }
        [System.Management.Automation.CompletionResult]::new($word, $word, 'ParameterValue', $text)
    }
}
